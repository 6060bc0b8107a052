import { expect } from 'vitest'
import { fetchAll, type RequestOptions } from './client.ts'

/** Series by name and labels, these in the order of the alphabet: `name{a="1",b="2"}`. */
export type Series = ReadonlyMap<string, number>

export async function scrape(url: string, options: RequestOptions = {}): Promise<Series> {
  const { status, body } = await fetchAll(`${url}/metrics`, options)
  expect(status).toBe(200)
  return seriesOf(body)
}

/** Reads the text format, as far as label values without braces and line breaks go. */
export function seriesOf(text: string): Series {
  const series = new Map<string, number>()
  for (const line of text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))) {
    const [, name, labels = '', value] = /^([a-z_]+)(?:\{([^}]*)\})? (\S+)$/.exec(line) ?? []
    const sorted = [...labels.matchAll(/[a-z_]+="[^"]*"/g)].map(([each]) => each).sort()
    const key = `${name}${sorted.length > 0 ? `{${sorted}}` : ''}`
    if (name === undefined || series.has(key)) throw new Error(`no series, or twice: ${line}`)
    series.set(key, Number(value))
  }
  return series
}

/** Names of metrics, without what histograms add to them. */
export function namesOf(series: Series): Set<string> {
  return new Set([...series.keys()].map((key) => key.replace(/\{.*/, '').replace(/_(bucket|sum|count)$/, '')))
}
