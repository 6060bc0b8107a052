import type { Directory } from '../../core/directory.ts'
import { ifThere } from '../../redis/link.ts'
import type { RedisCommands } from './commands.ts'
import type { FollowedLog } from './followed.ts'
import type { OwnedLog } from './owned.ts'
import { fromWord } from './questions.ts'

/** What a message can be about. */
export interface Hearing {
  readonly owned: Directory<OwnedLog>
  readonly followed: Directory<FollowedLog>
  readonly commands: RedisCommands
}

/**
 * What replicas say to one another, as words with blanks between them; each can be lost, and is said again or made up
 * for by a look at Redis.
 *
 * To the owner of a stream: `readers <stream> <replica> <count>`, every second while there are any; `expect <stream>`,
 * they are on their way to another replica; `stop <stream> <replica>`; `head? <stream> <replica>`; `decide <stream>
 * <replica> <question> <call> <decision>`, the last two in base64url. To those who follow it: `bell <stream>`, there is more to read; `head <stream> <events>`;
 * `decided <stream> <question> <1 or 0>`.
 * To oneself: `hello`.
 */
export function hear(message: string, { owned, followed, commands }: Hearing): void {
  const [kind, id = '', from = '', count = '', call = '', decision = ''] = message.split(' ')
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
    case 'decide':
      void own?.decide(fromWord(call), JSON.parse(fromWord(decision)), count).then(
        (taken) => say(from, `decided ${id} ${count} ${taken ? 1 : 0}`),
        // It ended the stream: what it was, the log tells.
        () => say(from, `decided ${id} ${count} 1`),
      )
      break
    case 'decided':
      followed.get(id)?.decisions.answer(count === '1', from)
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
      followed.get(id)?.heads.answer(Number(from))
      break
  }

  function say(replica: string, answer: string): void {
    void ifThere(commands.tell(replica, answer))
  }
}
