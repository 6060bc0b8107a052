import type { RedisCommands } from './commands.ts'
import type { FollowedLog } from './followed.ts'
import { ifThere } from './link.ts'
import type { OwnedLog } from './owned.ts'

/** What a message can be about. */
export interface Hearing {
  readonly owned: ReadonlyMap<string, OwnedLog>
  readonly followed: ReadonlyMap<string, FollowedLog>
  readonly commands: RedisCommands
}

/**
 * What replicas say to one another, as words with blanks between them; each can be lost, and is said again or made up
 * for by a look at Redis.
 *
 * To the owner of a stream: `readers <stream> <replica> <count>`, every second while there are any; `expect <stream>`,
 * they are on their way to another replica; `stop <stream> <replica>`; `head? <stream> <replica>`. To those who follow it: `bell <stream>`, there is more to read; `head <stream> <events>`.
 * To oneself: `hello`.
 */
export function hear(message: string, { owned, followed, commands }: Hearing): void {
  const [kind, id = '', from = '', count] = message.split(' ')
  const own = owned.get(id)
  switch (kind) {
    case 'readers':
      // For new ones: what came between their first look and now rang no bell there.
      if (own?.onReadersElsewhere(from, Number(count), performance.now())) say(from, `bell ${id}`)
      break
    case 'expect':
      own?.expectReaders()
      break
    case 'stop':
      void own?.stop().then(() => say(from, `bell ${id}`))
      break
    case 'head?':
      void own?.catchUp()
      // What is not here any more is in Redis to its end.
      say(from, `head ${id} ${own?.memory.local.length ?? 0}`)
      break
    case 'bell':
      void followed.get(id)?.readIfThere()
      break
    case 'head':
      followed.get(id)?.onHead(Number(from))
      break
  }

  function say(replica: string, answer: string): void {
    void ifThere(commands.tell(replica, answer))
  }
}
