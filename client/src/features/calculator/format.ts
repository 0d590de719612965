const counts = new Intl.NumberFormat('en');
const significant = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

export const formatCount = (count: number) => counts.format(count);

export const formatDigits = (digits: number) =>
  `${formatCount(digits)} ${digits === 1 ? 'digit' : 'digits'}`;

export function formatSeconds(seconds: number) {
  if (seconds >= 1) return `${significant.format(seconds)} s`;
  if (seconds >= 0.001) return `${significant.format(seconds * 1e3)} ms`;
  return `${significant.format(seconds * 1e6)} µs`;
}
