import { describe, expect, it } from 'vitest'
import type { Frame } from '../../src/client/stream.ts'
import { plain, plainLine, visibleJson } from '../../src/commands/chat/plain.ts'
import { Telling } from '../../src/commands/chat/telling.ts'

describe('what Claude says', () => {
  it.each([
    ['a\u001b[31mred\u001b[0m b', 'ared b'],
    ['\u001b]0;another title\u0007shown', 'shown'],
    ['\u001b]8;;http://evil.example\u0007link\u001b]8;;\u0007', 'link'],
    ['\u001b]52;c;ZXZpbA==\u0007copied', 'copied'],
    ['\u009b2Jcleared', 'cleared'],
    ['over\rwritten\b\b', 'overwritten'],
    ['bell\u0007 \u0000null \u007f del', 'bell null  del'],
    ['right\u202eotf.exe\u2066x', 'rightotf.exex'],
    ['line\r\nfeed\n\ttab', 'line\nfeed\n\ttab'],
    ['水門 🌊 👩‍👩‍👧 ümlauts', '水門 🌊 👩‍👩‍👧 ümlauts'],
  ])('%j is shown as %j', (said, shown) => {
    expect(plain(said)).toBe(shown)
  })

  it('plays no tricks on a terminal, wherever it is cut', () => {
    const payload =
      'x\u001b]52;c;ZXZpbA==\u0007\u001b\u001b[0m[2J\u001bP1$r\u001b\\\u009b31m\u0090q\u009c\r\b\u202ey\u001b'
    for (let at = 0; at <= payload.length; at++) {
      const shown = plain(payload.slice(0, at)) + plain(payload.slice(at))
      expect(shown).toMatch(/^[\x20-\x7e]*$/)
    }
  })

  it('is one line where a line is wanted', () => {
    expect(plainLine(`a\n\u001b[1A ${'b'.repeat(99)}`, 10)).toBe('a bbbbbbb…')
  })
})

describe('an input that somebody has to know', () => {
  it('is shown whole, with escapes for all that cannot be seen', () => {
    const tricky = {
      escape: '\u001b[2J\u009b31m',
      turn: 'right\u202eotf.exe',
      line: 'a\r\nb\u2028c\tü 🌊',
      hidden: 'a\u200bb\u{e0041}c\ufeff\ud800',
      'na\u007fme': [1, null],
    }
    expect(visibleJson(tricky)).toBe(
      String.raw`{"escape":"\u001b[2J\u009b31m","turn":"right\u202eotf.exe","line":"a\r\nb\u2028c\tü 🌊","hidden":"a\u200bb\udb40\udc41c\ufeff\ud800","na\u007fme":[1,null]}`,
    )
    for (const indent of [undefined, 2]) expect(JSON.parse(visibleJson(tricky, indent))).toEqual(tricky)
    expect(visibleJson({ a: ['\n'] }, 2)).toBe('{\n  "a": [\n    "\\n"\n  ]\n}')
  })
})

describe('an answer at a terminal', () => {
  const tell = (...frames: unknown[]) => {
    const telling = new Telling()
    // Colours are the terminal's business, and there is none here.
    return frames.map((frame) => telling.add(frame as Frame)).join('')
  }
  const usage = { input_tokens: 9, output_tokens: 4 }
  const timing = { ttft_ms: 420, duration_ms: 3_210, tokens_per_second: 41.6 }
  const done = { type: 'done', stop_reason: 'end_turn', usage, cost_usd: 0.00123, timing, recovered: 0 }

  it('has thinking, text, calls and what it took, each where it can be told apart', () => {
    expect(
      tell(
        { type: 'start' },
        { type: 'thinking', block: 0, text: 'Let me ' },
        { type: 'thinking', block: 0, text: 'see.' },
        { type: 'text', block: 1, text: 'I look ' },
        { type: 'text', block: 1, text: 'it up.' },
        { type: 'tool_call', block: 2, id: 't', name: 'wea\u001b[1mther', input: { city: 'Bern' } },
        { type: 'tool_approval', id: 't', name: 'wea\u001b[1mther', input: {}, expires_at: '' },
        { type: 'tool_decision', id: 't', name: 'wea\u001b[1mther', decision: 'approved' },
        { type: 'tool_result', id: 't', name: 'weather', content: 'sunny\nwarm', is_error: false },
        { type: 'recovery', reason: 'upstream_overloaded', attempt: 2, mode: 'quote' },
        { type: 'text', block: 0, text: 'Sunny.' },
        done,
      ),
    ).toBe(`Let me see.

I look it up.
→ weather {"city":"Bern"}
(weather waits for consent)
(weather: approved)
← sunny warm
(upstream_overloaded: goes on)
Sunny.
9 tokens in, 4 out · $0.0012 · first word after 0.4 s · 3.2 s in all · 42 tokens/s
`)
  })

  it('tells no more than is known, and why it ended', () => {
    const unknown = { ttft_ms: null, duration_ms: 1_000, tokens_per_second: null }
    expect(tell({ ...done, cost_usd: null, timing: unknown, stop_reason: 'max_tokens', recovered: 1 })).toBe(
      '9 tokens in, 4 out · 1.0 s in all · broke off once · ended by max_tokens\n',
    )
  })
})
