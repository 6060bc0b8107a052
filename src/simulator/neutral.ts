import { createHmac, randomBytes } from 'node:crypto'

/**
 * What is taken out of recordings, found in one pass so that nothing is replaced twice: API keys; the value of every field
 * that is an id; ids in the form of Anthropic's and UUIDs, which organisations and workspaces have, wherever they stand.
 */
const personal = new RegExp(
  [
    /(?<key>\b(?:sk-ant-|slk_)[\w-]+)/,
    /(?<field>"(?:id|[a-z_]+_id)"\s*:\s*")(?<value>[^"\\]+)(?=")/,
    /(?<uuid>\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b)/,
    /(?<id>\b[a-z]+_(?:[a-z]+_)?0[0-9][A-Za-z0-9]{18,}\b)/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'g',
)

interface Found {
  readonly key?: string
  readonly field?: string
  readonly value?: string
  readonly uuid?: string
  readonly id?: string
}

/**
 * Takes out of a text what belongs to whoever asked. The same id becomes the same other one as long as this lives, by a hash
 * with a secret of its own: nothing has to be remembered, and nothing can be traced back.
 */
export function neutralizer(): (text: string) => string {
  const secret = randomBytes(32)
  const hashOf = (text: string) => createHmac('sha256', secret).update(text).digest('hex')
  const idFor = (id: string) => {
    if (/^[0-9a-f-]{36}$/.test(id)) return uuidFor(id)
    const at = id.indexOf('_') + 1
    return `${id.slice(0, at) || 'id_'}${hashOf(id.slice(at)).slice(0, 24)}`
  }
  const uuidFor = (uuid: string) => hashOf(uuid).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5')
  return (text) =>
    text.replace(personal, (...match) => {
      const { key, field, value, uuid, id } = match.at(-1) as Found
      if (key !== undefined) return `${key.startsWith('slk_') ? 'slk_' : 'sk-ant-'}removed`
      if (field !== undefined) return `${field}${idFor(value ?? '')}`
      return uuid === undefined ? idFor(id ?? '') : uuidFor(uuid)
    })
}
