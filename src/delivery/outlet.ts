/** A client's socket, as far as a connection knows it. */
export interface Outlet {
  /** All bytes that have been written, and those of them that the client has not taken yet. */
  readonly writtenBytes: number
  readonly pendingBytes: number
  /** @returns false when the client lags: no more is written until `Connection.resume` is called */
  write(text: string): boolean
  /** Ends the response with `text`, after what has been written. */
  end(text: string): void
  /** Cuts the connection. */
  destroy(): void
}

/** What a client has yet to take of a live stream. */
export interface Lag {
  readonly events: number
  /** Written, and not taken by the client's side yet. */
  readonly bytes: number
}
