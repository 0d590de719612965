import { Link, NavLink, Route, Routes } from 'react-router';
import { CalculatorPage } from './features/calculator/calculator-page';
import { OtherPage } from './features/other/other-page';

export function App() {
  return (
    <>
      <nav aria-label="Pages">
        <NavLink to="/">Calculator</NavLink>
        <NavLink to="/otherpage">Other page</NavLink>
      </nav>
      <main>
        <Routes>
          <Route path="/" element={<CalculatorPage />} />
          <Route path="/otherpage" element={<OtherPage />} />
          <Route path="*" element={<NotFound />} />
        </Routes>
      </main>
    </>
  );
}

function NotFound() {
  return (
    <>
      <title>Not found – Fib Calculator</title>
      <h1>There is no such page</h1>
      <p>
        <Link to="/">Go to the calculator</Link>
      </p>
    </>
  );
}
