import { expect, test } from 'vitest';
import { formatDigits, formatSeconds } from './format';

test.each([
  [1, '1 digit'],
  [208_988, '208,988 digits'],
])('%i is written %s', (digits, text) => {
  expect(formatDigits(digits)).toBe(text);
});

test.each([
  [0, '0 ms'],
  [0.000_012_3, '0.0123 ms'],
  [0.25, '250 ms'],
  [12.345, '12.3 sec'],
])('%d seconds are written %s', (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text);
});
