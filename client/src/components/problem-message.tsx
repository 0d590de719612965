import { ProblemError, type Problem } from '../api';

export function ProblemMessage({ error, id }: { error: Error; id?: string }) {
  const { title, detail, requestId }: Problem =
    error instanceof ProblemError ? error.problem : { title: error.message };
  return (
    <div role="alert" className="problem" id={id}>
      <strong>{title}</strong>
      {detail && <p>{detail}</p>}
      {requestId && (
        <small>
          Request id <code>{requestId}</code>
        </small>
      )}
    </div>
  );
}
