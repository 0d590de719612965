import type { ComponentProps } from 'react';

/**
 * A button that does nothing while it is busy. It is not disabled then: that would take the focus
 * away from whoever has just pressed it.
 */
export function BusyButton({
  busy,
  onPress,
  ...rest
}: { busy: boolean; onPress: () => void } & Omit<ComponentProps<'button'>, 'onClick'>) {
  return (
    <button
      {...rest}
      aria-disabled={busy}
      onClick={() => {
        if (!busy) onPress();
      }}
    />
  );
}
