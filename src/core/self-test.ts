/** A frame of the stream that a server makes to test the way to its clients. */
export type SelfTestFrame =
  | {
      readonly type: 'hello'
      /** How often this server sends something on streams that are silent, in milliseconds. */
      readonly heartbeat_ms: number
      /** Of HTTP, as the request arrived. */
      readonly http: string
      /** Request headers that streams need, as they arrived. */
      readonly seen: Readonly<Record<string, string>>
    }
  | {
      readonly type: 'tick'
      /** 1, 2, 3 … */
      readonly n: number
      /** When it was written, in milliseconds since the stream began. */
      readonly sent_ms: number
    }

/** How a self-test stream goes, as the server sees it: `left` when its client was gone before the end. */
export interface SelfTestState {
  readonly state: 'open' | 'sent' | 'left'
}
