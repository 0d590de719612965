const counts = new Intl.NumberFormat('en');

const unit = (name: string) =>
  new Intl.NumberFormat('en', { style: 'unit', unit: name, maximumSignificantDigits: 3 });
const milliseconds = unit('millisecond');
const seconds = unit('second');

export const formatCount = (count: number) => counts.format(count);

export const formatDigits = (digits: number) =>
  `${formatCount(digits)} ${digits === 1 ? 'digit' : 'digits'}`;

export const formatSeconds = (value: number) =>
  value < 1 ? milliseconds.format(value * 1000) : seconds.format(value);
