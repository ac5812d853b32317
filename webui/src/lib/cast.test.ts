import { describe, expect, it } from 'vitest';
import { Cast, clock, MAX_CHARS, PlayClock } from './cast';

const head = '{"version":2,"width":100,"height":30,"timestamp":1}\n';

describe('a recording', () => {
  it('is the same however it is cut', () => {
    const text =
      head + '[0.5,"o","a\\u001b[1m"]\n[1.5,"r","120x40"]\n[2,"i","typed"]\n[2.25,"o","ü"]\n';
    for (const width of [1, 7, text.length]) {
      const cast = new Cast();
      for (let at = 0; at < text.length; at += width) cast.push(text.slice(at, at + width));
      expect(cast.size).toEqual({ cols: 100, rows: 30 });
      expect(cast.events).toEqual([
        { at: 0.5, kind: 'output', text: 'a\x1b[1m' },
        { at: 1.5, kind: 'resize', size: { cols: 120, rows: 40 } },
        { at: 2.25, kind: 'output', text: 'ü' },
      ]);
      expect(cast.duration).toBe(2.25);
      expect([0, 0.5, 1.5, 9].map((at) => cast.after(at))).toEqual([0, 1, 2, 3]);
    }
  });

  it('survives what is no recording', () => {
    const cast = new Cast();
    cast.push(
      'not json\n[1]\nnull\n' +
        head +
        '{}\n[NaN,"o","x"]\n["1","o","x"]\n[1,"r","0x0"]\n[1,"r","9"]\n',
    );
    cast.push('[3,"o","late"]\n[1,"o","earlier"]\n');
    expect(cast.events.map(({ at }) => at)).toEqual([3, 3]);
  });

  it('is bounded, and says so', () => {
    const cast = new Cast();
    cast.push(head);
    const line = JSON.stringify([1, 'o', 'x'.repeat(1 << 20)]) + '\n';
    for (let i = 0; i < 40; i++) cast.push(line);
    expect(cast.cut).toBe(true);
    expect(cast.events.length).toBeLessThanOrEqual(MAX_CHARS / (1 << 20));
  });
});

describe('the clock of a replay', () => {
  it('plays, pauses, changes its speed and jumps', () => {
    const play = new PlayClock();
    expect(play.at(1000, 60)).toBe(0);
    play.play(1000);
    expect(play.at(3000, 60)).toBe(2);
    play.setSpeed(4, 3000, 60);
    expect(play.at(4000, 60)).toBe(6);
    play.pause(4000, 60);
    expect(play.at(9000, 60)).toBe(6);
    play.seek(30, 9000);
    play.play(9000);
    expect(play.at(10_000, 60)).toBe(34);
    expect(play.at(99_000, 60)).toBe(60);
  });

  it('shortens a long pause', () => {
    const play = new PlayClock();
    play.play(0);
    play.skipPause(1.5, 0, 100);
    expect(play.at(0, 100)).toBe(0);
    play.skipPause(50, 0, 100);
    expect(play.at(0, 100)).toBe(48);
  });

  it('is read as people do', () => {
    expect([0, 65, 7389].map(clock)).toEqual(['0:00', '1:05', '2:03:09']);
  });
});
