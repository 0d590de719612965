import js from '@eslint/js';
import playwright from 'eslint-plugin-playwright';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

export default defineConfig(
  js.configs.recommended,
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  playwright.configs['flat/recommended'],
  {
    languageOptions: {
      parserOptions: { projectService: true },
    },
    settings: {
      playwright: { globalAliases: { test: ['testOnALine'] } },
    },
    rules: {
      // Numbers in template strings read well, and cannot surprise.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
    },
  },
  { files: ['**/*.js'], extends: [tseslint.configs.disableTypeChecked] },
);
