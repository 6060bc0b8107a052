/** Stands where something is that must not be shown. */
const hidden = '***'

/** Settings whose value is a credential, and maps and lists all of whose values may be. */
const credential = /(^|_)(secret|secrets|token|password|key|sha256)$/
const credentials = /^(env|args)$|(^|_)headers$/

/** The same tree without what lets anybody in anywhere: credentials, and what URLs hold of them. */
export function redacted(value: unknown, name = ''): unknown {
  if (value === undefined || value === null) return value
  if (credential.test(name)) return hidden
  const all = credentials.test(name)
  if (Array.isArray(value)) return value.map((each) => (all ? hidden : redacted(each, name)))
  if (typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, all ? hidden : redacted(each, key)]))
  }
  return typeof value === 'string' ? withoutCredentials(value) : value
}

/** User, password and query of a URL; who wrote a token into it wrote it there. */
function withoutCredentials(text: string): string {
  if (!text.includes('://') || !URL.canParse(text)) return text
  const url = new URL(text)
  if (url.username === '' && url.password === '' && url.search === '') return text
  if (url.username !== '') url.username = hidden
  if (url.password !== '') url.password = hidden
  if (url.search !== '') url.search = `?${hidden}`
  return url.href
}
