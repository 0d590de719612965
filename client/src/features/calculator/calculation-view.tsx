import { useMutation } from '@tanstack/react-query';
import { digitsUrl, getDigits, ProblemError, type Calculation } from '../../api';
import { BusyButton } from '../../components/busy-button';
import { ProblemMessage } from '../../components/problem-message';
import { formatDigits, formatSeconds } from './format';
import { useAsk } from './queries';

/** A longer value is folded to its ends, as many digits each as the api sends of a very long one. */
const UNFOLDED_DIGITS = 100;
const END_DIGITS = 20;

export function CalculationView({ calculation }: { calculation: Calculation }) {
  const { index, status, digits, computeSeconds, attempts, error } = calculation;
  return (
    <article className="calculation" aria-label={`F(${index})`}>
      <header>
        <strong>F({index})</strong>
        <span className={`status ${status}`}>{status}</span>
        {digits !== undefined && <span>{formatDigits(digits)}</span>}
        {computeSeconds !== undefined && <span>{formatSeconds(computeSeconds)}</span>}
      </header>
      {status === 'done' && (
        <>
          <TakeAway index={index} />
          <Value calculation={calculation} />
        </>
      )}
      {status === 'failed' && (
        <>
          <AskAgain index={index} />
          <p>
            Given up after {attempts === 1 ? 'one attempt' : `${attempts} attempts`}: {error}
          </p>
        </>
      )}
    </article>
  );
}

function Value({ calculation: { value, head, tail } }: { calculation: Calculation }) {
  if (value === undefined) {
    return head && tail && <p className="digits">{`${head}…${tail}`}</p>;
  }
  if (value.length <= UNFOLDED_DIGITS) return <p className="digits">{value}</p>;
  return (
    <details className="digits">
      <summary>{`${value.slice(0, END_DIGITS)}…${value.slice(-END_DIGITS)}`}</summary>
      {value}
    </details>
  );
}

function TakeAway({ index }: { index: string }) {
  const copy = useMutation({ mutationFn: () => copyDigits(index) });
  return (
    <>
      <div className="actions">
        <BusyButton
          busy={copy.isPending}
          onPress={() => {
            copy.mutate();
          }}
          onBlur={copy.reset}
        >
          {copy.isSuccess ? 'Copied' : 'Copy'} <span className="visually-hidden">F({index})</span>
        </BusyButton>
        <a href={digitsUrl(index)} download={`fibonacci-${index}.txt`}>
          Download <span className="visually-hidden">F({index})</span>
        </a>
        <span role="status" className="visually-hidden">
          {copy.isSuccess && `F(${index}) is on the clipboard`}
        </span>
      </div>
      {copy.isError && <ProblemMessage role="alert" error={copy.error} />}
    </>
  );
}

async function copyDigits(index: string) {
  if (!window.isSecureContext) {
    throw new ProblemError({
      title: 'The browser does not let this page copy',
      detail: 'It would over https or on localhost. Download the number instead.',
    });
  }
  const digits = getDigits(index);
  // The clipboard is given the promise, since Safari refuses it once the click lies in the past.
  // It hides why the promise failed; waiting for both tells.
  await Promise.all([
    digits,
    navigator.clipboard.write([new ClipboardItem({ 'text/plain': digits })]),
  ]);
}

function AskAgain({ index }: { index: string }) {
  const ask = useAsk();
  return (
    <>
      <div className="actions">
        <BusyButton
          busy={ask.isPending}
          onPress={() => {
            ask.mutate(index);
          }}
        >
          Ask again <span className="visually-hidden">for F({index})</span>
        </BusyButton>
      </div>
      {ask.isError && <ProblemMessage role="alert" error={ask.error} />}
    </>
  );
}
