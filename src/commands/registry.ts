import { chat } from './chat.ts'
import { check } from './check.ts'
import type { Command } from './command.ts'
import { demo } from './demo.ts'
import { doctor } from './doctor.ts'
import { keys } from './keys.ts'
import { record } from './record.ts'
import { serve } from './serve.ts'
import { simulate } from './simulate.ts'
import { tools } from './tools.ts'

/** All commands, in the order in which help lists them; the first is what `sluice` alone does. */
export const commands: readonly [Command, ...Command[]] = [
  serve,
  demo,
  chat,
  check,
  doctor,
  keys,
  tools,
  simulate,
  record,
]
