/** Headers that every response carries, so that a browser makes no more of it than it is. */
export type SecurityHeaders = Readonly<Record<string, string>>

const always = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  // Nothing here is a page. If a browser takes it for one all the same, it may load, run and frame nothing.
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
} as const

/** A year: what browsers and their lists of such sites expect. */
const strictTransport = { 'strict-transport-security': 'max-age=31536000' } as const

/**
 * @param shared pages of other origins may read what is served here
 * @param strict browsers shall never come here without TLS again
 */
export function securityHeaders({ shared, strict }: { shared: boolean; strict: boolean }): SecurityHeaders {
  return {
    ...always,
    'cross-origin-resource-policy': shared ? 'cross-origin' : 'same-origin',
    ...(strict && strictTransport),
  }
}

/**
 * What a route that serves a page, or what belongs to one, sends in place of the policy above: all of it comes from this
 * server, nothing stands inline. Whatever gets into the page as markup loads nothing and runs nothing.
 */
export const pageHeaders: SecurityHeaders = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    // What assigns text to innerHTML and its like throws.
    "require-trusted-types-for 'script'",
  ].join('; '),
}

/** The same as text, for what is answered before there is a request. */
export function headLines(headers: SecurityHeaders): string[] {
  return Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
}
