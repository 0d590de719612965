import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [react()],
  server: {
    host: true,
    port: 3000,
    strictPort: true,
    // Behind nginx or an Ingress the page is asked for under whatever name the machine has, and the
    // proxy passes that name on. Vite would refuse it, to keep strangers' pages from reading local
    // sources by DNS rebinding; these sources are public.
    allowedHosts: true,
    // Only for Vite run alone: behind the proxy /api never comes here. The address of the
    // hot-reload socket is left unset, so that it follows the page through any proxy and port.
    proxy: { '/api': process.env.API_URL ?? 'http://localhost:5000' },
  },
  test: {
    environment: 'jsdom',
    setupFiles: 'src/testing/setup.ts',
    testTimeout: 30_000, // for a machine that is busy with other things
    restoreMocks: true,
    unstubGlobals: true,
  },
});
