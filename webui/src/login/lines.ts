// A stream of bytes as the lines in it, each as soon as it is whole.

/** Yields each line that is not empty; the last one needs no line break. */
export async function* lines(bytes: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = bytes.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const whole = rest.split('\n');
      rest = done ? '' : (whole.pop() ?? '');
      yield* whole.filter((line) => line !== '');
      if (done) return;
    }
  } finally {
    // Whoever stops reading leaves.
    void reader.cancel().catch(() => undefined);
  }
}
