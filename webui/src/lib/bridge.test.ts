import { describe, expect, it } from 'vitest';
import { certificate, pageUrl, whereabouts, type ClusterStatus } from './bridge';

const status: ClusterStatus = { name: 'm', destination: 'a@m:22', state: 'connected' };
const NOW = 1_700_000_000_000;
const until = (validUntilMs?: number): ClusterStatus => ({
  ...status,
  login: {
    certificate: { keyId: 'a', source: 'ssh-agent', ...(validUntilMs && { validUntilMs }) },
  },
});

describe('what the bridge says', () => {
  it('tells how long a certificate is valid, and warns in time', () => {
    const minutes = (n: number) => certificate(until(NOW + n * 60_000), NOW);
    expect(minutes(190)).toEqual({ text: 'certificate valid 3 h 10 m', soon: false });
    expect(minutes(29)).toEqual({ text: 'certificate valid 29 m', soon: true });
    expect(minutes(-1)).toEqual({ text: 'certificate expired', soon: true });
    expect(minutes(52 * 60)?.text).toBe('certificate valid 2 d 4 h');
    expect(certificate(until(), NOW)).toBeUndefined();
    expect(certificate(status, NOW)).toBeUndefined();
  });

  it('names the node and the way to it', () => {
    expect(whereabouts({ ...status, node: 'login02', via: 'login01' })).toBe('login02 via login01');
    expect(whereabouts({ ...status, node: 'login02' })).toBe('login02');
    expect(whereabouts(status)).toBeUndefined();
  });

  it('opens another page under the name of loopback that this one has', () => {
    const url = 'http://localhost:4000/#code=x';
    expect(pageUrl(url, '127.0.0.1', 'dark')).toBe('http://127.0.0.1:4000/?theme=dark#code=x');
    expect(pageUrl(url, 'localhost', 'light')).toBe('http://localhost:4000/?theme=light#code=x');
  });
});
