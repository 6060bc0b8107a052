export interface NodeLimits {
  /** How long a client may take to send its headers, in milliseconds. */
  readonly headers_timeout_ms: number
  /** How long a client may take to send its whole request, in milliseconds. */
  readonly request_timeout_ms: number
}

/** What Node's own server is told, whichever kind it is. */
export function nodeLimits({ headers_timeout_ms, request_timeout_ms }: NodeLimits) {
  return {
    headersTimeout: headers_timeout_ms,
    requestTimeout: request_timeout_ms,
    // Node checks only as often as this says.
    connectionsCheckingInterval: Math.min(1_000, headers_timeout_ms),
    // Longer than load balancers keep a connection: it is theirs to close first.
    keepAliveTimeout: 72_000,
    noDelay: true,
    // Finds peers that vanished while nothing is on its way to them.
    keepAlive: true,
    keepAliveInitialDelay: 15_000,
  } as const
}
