import { describe, expect, it } from 'vitest'
import { duration, Series, ticks } from '../../src/playground/chart.ts'
import { numberOf, summaryOf, WireSplitter } from '../../src/playground/wire.ts'

describe('the wire', () => {
  it('is cut into frames as they came, wherever the reads were cut', () => {
    const bytes = new TextEncoder().encode(
      ': ping\n\nid: s_1.1\ndata: {"a":"ü"}\n\nid: s_1.2\ndata: x\ndata: y\n\ndata: [DONE]\n\n',
    )
    for (const size of [1, 3, 7, bytes.length]) {
      const splitter = new WireSplitter()
      const frames = Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) =>
        splitter.feed(bytes.subarray(n * size, (n + 1) * size), n),
      ).flat()
      expect(frames.map(({ text, kind }) => [kind, text])).toEqual([
        ['comment', ': ping'],
        ['frame', 'id: s_1.1\ndata: {"a":"ü"}'],
        ['frame', 'id: s_1.2\ndata: x\ndata: y'],
        ['frame', 'data: [DONE]'],
      ])
      expect(splitter.rest).toBe('')
      expect(frames.map(numberOf)).toEqual(['', '1', '2', ''])
      expect(frames.map(summaryOf)).toEqual([': ping', '{"a":"ü"}', 'x ⏎ y', '[DONE]'])
    }
  })
})

describe('tokens over time', () => {
  it('have a first one, a rate, and gaps during which there are no more of them', () => {
    const series = new Series()
    series.add(100, 'a'.repeat(40))
    series.add(600, 'a'.repeat(40))
    series.add(2_100, 'a'.repeat(40))
    expect(series.firstMs).toBe(100)
    expect(series.tokens).toBe(30)
    expect(series.tokensPerSecond).toBe(15)
    expect(series.gaps).toEqual([{ from: 600, to: 2_100 }])
    expect(series.points(100)).toEqual([
      [100, 10],
      [600, 20],
      [2_100, 20],
      [2_100, 30],
    ])
  })

  it('are drawn with as many points as there is room for, the last among them', () => {
    const series = new Series()
    for (let n = 0; n <= 10_000; n++) series.add(n, 'abcd')
    const points = series.points(300)
    expect(points.length).toBeLessThanOrEqual(302)
    expect(points.at(-1)).toEqual([10_000, 10_001])
  })

  it('have round numbers beside them', () => {
    expect(ticks(10, 3)).toEqual([0, 5, 10])
    expect(ticks(233, 3)).toEqual([0, 100, 200])
    expect(ticks(0.7, 4)).toEqual([0, 0.2, 0.4, 0.6])
    expect([duration(12.4), duration(1_240), duration(61_000)]).toEqual(['12 ms', '1.2 s', '1 min 1 s'])
  })
})
