import { AskForm } from './ask-form';
import { CalculatedValues } from './calculated-values';
import { IndexesSeen } from './indexes-seen';
import { useLive } from './live';
import { StatsLine } from './stats-line';

export function CalculatorPage() {
  const live = useLive();
  return (
    <>
      <title>Fib Calculator</title>
      <StatsLine live={live} />
      <h1>Fib Calculator</h1>
      <AskForm live={live} />
      <div className="columns">
        <IndexesSeen live={live} />
        <CalculatedValues live={live} />
      </div>
    </>
  );
}
