import { type Command, complain, httpUrl, noWords, print, textOf, UsageError, wholeNumber } from './command.ts'
import { fail } from './failure.ts'
import { onStopSignal } from './signals.ts'

export const record: Command = {
  name: 'record',
  summary: 'keeps streams of the real Claude, for the simulated one to play again',
  options: {
    dir: { type: 'string', value: 'DIR', says: 'where recordings go; made if it is not there' },
    port: { type: 'string', value: 'N', says: '8789 unless given; 0 for any free one' },
    host: { type: 'string', value: 'HOST', says: '127.0.0.1 unless given' },
    upstream: { type: 'string', value: 'URL', says: 'of Claude, without /v1 (https://api.anthropic.com)' },
  },
  details: `Stands between a client and Claude and passes on, unchanged, what both say: the client's key goes through and is kept
nowhere. Each streamed answer becomes DIR/TIME-MODEL.sse, readable by you alone, with its times and without keys, ids
and organisations. It holds what Claude said: read it before you give it away. sluice simulate --recordings DIR plays it.`,
  examples: [
    ['sluice record --dir recordings', 'then ANTHROPIC_BASE_URL=http://127.0.0.1:8789 for Sluice or an SDK'],
    ['sluice record --dir recordings --upstream https://gateway.example.com', 'another way to Claude'],
  ],
  async run(args) {
    noWords(args)
    const { values } = args
    const folder = textOf(values['dir'])
    if (!folder) throw new UsageError('record needs --dir, a folder for the recordings')
    const host = textOf(values['host'])
    const port = wholeNumber('port', values['port'], 8789)
    const upstream = httpUrl('upstream', textOf(values['upstream']) ?? 'https://api.anthropic.com')
    const { Recorder } = await import('../simulator/recorder.ts')
    const told = (line: string) => complain(`${new Date().toISOString()} ${line}\n`)
    const recorder = await Recorder.start({ folder, upstream, port, ...(host && { host }), told })
    onStopSignal(() => {
      recorder.close().then(() => process.exit(0), fail)
    })
    print(`Recording is ready on ${recorder.url}, in front of ${upstream}. Send a client there:

  ANTHROPIC_BASE_URL=${recorder.url}

Ctrl-C stops it.
`)
  },
}
