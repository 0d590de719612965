import { useQuery } from '@tanstack/react-query';
import { useId, type SubmitEvent } from 'react';
import { ProblemMessage } from '../../components/problem-message';
import { CalculationView } from './calculation-view';
import { calculationQuery, useAsk } from './queries';

export function AskForm({ live }: { live: boolean }) {
  const ask = useAsk();
  const inputId = useId();
  const problemId = useId();

  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const index = new FormData(form).get('index') as string;
    ask.mutate(index.trim(), {
      onSuccess: () => {
        form.reset();
      },
    });
  };

  return (
    <>
      <form onSubmit={submit} className="ask">
        <label htmlFor={inputId}>Enter your index:</label>
        {/* Which indexes are allowed is the api's to say. */}
        <input
          id={inputId}
          name="index"
          inputMode="numeric"
          autoComplete="off"
          required
          aria-invalid={ask.isError}
          aria-describedby={ask.isError ? problemId : undefined}
        />
        <button>Submit</button>
      </form>
      {ask.isError && <ProblemMessage role="alert" error={ask.error} id={problemId} />}
      <section aria-label="Answer" aria-live="polite">
        {ask.data && <Answer key={ask.data.index} index={ask.data.index} live={live} />}
      </section>
    </>
  );
}

function Answer({ index, live }: { index: string; live: boolean }) {
  const { data, failureReason } = useQuery(calculationQuery(index, live));
  return (
    <div className="panel">
      {failureReason && <ProblemMessage error={failureReason} />}
      {data && <CalculationView calculation={data} />}
    </div>
  );
}
