import { QueryClientProvider } from '@tanstack/react-query';
import { render, screen, within } from '@testing-library/react';
import { MemoryRouter } from 'react-router';
import { App } from '../app';
import { createQueryClient } from '../query-client';

export function renderApp(path = '/') {
  render(
    <QueryClientProvider client={createQueryClient()}>
      <MemoryRouter initialEntries={[path]}>
        <App />
      </MemoryRouter>
    </QueryClientProvider>,
  );
}

export const region = (name: string) => within(screen.getByRole('region', { name }));

/** The row of an index in the list of calculated values, as soon as there is one. */
export const findRow = (index: string) =>
  region('Calculated values').findByRole('article', { name: `F(${index})` });
