import { ProblemError, type Problem } from '../api';

interface Props {
  error: Error;
  id?: string;
  /** For what the reader has just done. What the page does by itself must not interrupt again and again. */
  role?: 'alert';
}

export function ProblemMessage({ error, id, role }: Props) {
  const { title, detail, requestId }: Problem =
    error instanceof ProblemError ? error.problem : { title: error.message };
  return (
    <div role={role} className="problem" id={id}>
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
