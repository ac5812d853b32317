import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Painter } from './painter';

describe('what was drawn', () => {
  let frames: (() => void)[] = [];
  let went = 0;
  const go = () => void went++;
  const frame = () => frames.splice(0).forEach((each) => each());

  beforeEach(() => {
    vi.useFakeTimers();
    [frames, went] = [[], 0];
    vi.stubGlobal('requestAnimationFrame', (then: () => void) => frames.push(then));
    vi.stubGlobal('cancelAnimationFrame', () => {});
  });
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.useRealTimers();
  });

  /** A painter in the midst of a flood. */
  const flooded = () => {
    const painter = new Painter();
    painter.came(8_000);
    painter.passed(1_000_000);
    return painter;
  };

  it('is on the screen with the next frame', () => {
    new Painter().painted(go);
    expect(went).toBe(0);
    frame();
    expect(went).toBe(1);
    vi.advanceTimersByTime(1000);
    expect(went).toBe(1);
  });

  it('goes on where there are no frames', () => {
    new Painter().painted(go);
    vi.advanceTimersByTime(150);
    expect(went).toBe(1);
  });

  it('rests in a flood until a key is pressed, and not while its effect is awaited', () => {
    const painter = flooded();
    painter.painted(go);
    frame();
    expect(went).toBe(0);
    painter.pressed();
    expect(went).toBe(1);
    painter.painted(go);
    frame();
    expect(went).toBe(2);
  });

  it('rests for a moment only', () => {
    flooded().painted(go);
    frame();
    vi.advanceTimersByTime(100);
    expect(went).toBe(1);
  });

  it('is no flood when little is passed over, or when it is over', () => {
    const painter = new Painter();
    painter.came(200_000);
    painter.passed(250_000);
    painter.painted(go);
    frame();
    expect(went).toBe(1);
    const before = flooded();
    vi.advanceTimersByTime(2000);
    before.painted(go);
    frame();
    expect(went).toBe(2);
  });
});
