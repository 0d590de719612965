import { expect, test } from 'vitest';
import { formatDigits, formatSeconds } from './format';

test.each([
  [1, '1 digit'],
  [208_988, '208,988 digits'],
])('%i is written %s', (digits, text) => {
  expect(formatDigits(digits)).toBe(text);
});

test.each([
  [0, '0 µs'],
  [0.000_012_3, '12.3 µs'],
  [0.25, '250 ms'],
  [12.345, '12.3 s'],
])('%d seconds are written %s', (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text);
});
