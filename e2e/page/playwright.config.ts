import { defineConfig } from '@playwright/test';

if (!process.env.BASE_URL) {
  throw new Error('Set BASE_URL to where a stack runs, such as http://localhost:3050');
}
export const baseURL = process.env.BASE_URL;

export default defineConfig({
  // For machines that are busy with other things.
  timeout: 180_000,
  expect: { timeout: 60_000 },
  fullyParallel: true,
  workers: 2,
  reporter: 'list',
  use: {
    baseURL,
    screenshot: 'only-on-failure',
    launchOptions: {
      // Debian's, so that nothing is downloaded.
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: [
        '--disable-gpu',
        '--disable-quic',
        // Only such pages may use the clipboard.
        `--unsafely-treat-insecure-origin-as-secure=${new URL(baseURL).origin}`,
      ],
    },
  },
});
