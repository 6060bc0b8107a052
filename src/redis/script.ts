import { type CommandParser, defineScript } from '@redis/client'

/** A script that is sent as its hash, and whole only to a Redis that does not know it yet. */
export function script<Reply>(source: string) {
  return defineScript({
    SCRIPT: source,
    parseCommand(parser: CommandParser, keys: readonly string[], args: readonly string[]) {
      parser.pushKeysLength([...keys])
      parser.push(...args)
    },
    transformReply: (reply: unknown) => reply as Reply,
  })
}
