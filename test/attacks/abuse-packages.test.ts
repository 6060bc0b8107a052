import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '../..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

interface LockedPackage {
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly hasInstallScript?: boolean
  readonly link?: boolean
}

const { packages, lockfileVersion } = JSON.parse(read('package-lock.json')) as {
  readonly lockfileVersion: number
  readonly packages: Record<string, LockedPackage>
}
const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string | boolean>>
const locked = Object.entries(packages).filter(([path]) => path !== '')
/** Node's binary, and a bundler of the tests. */
const mayRunScripts = ['esbuild', 'node']

describe('A23 packages that turn bad', () => {
  it('A23 every package is one version with one hash, from the registry', () => {
    expect([lockfileVersion, locked.length > 100]).toEqual([3, true])
    for (const [path, { version, integrity, resolved, link }] of locked) {
      expect([path, /^\d+\.\d+\.\d+/.test(version ?? '')]).toEqual([path, true])
      expect([path, /^sha512-[\w+/]{86}==$/.test(integrity ?? '')]).toEqual([path, true])
      expect([path, resolved === undefined || resolved.startsWith('https://registry.npmjs.org/')]).toEqual([path, true])
      expect([path, link]).toEqual([path, undefined])
    }
  })

  it('A23 what package.json names is an exact version, and the one that is locked', () => {
    for (const kind of ['dependencies', 'devDependencies'] as const) {
      for (const [name, version] of Object.entries(manifest[kind] ?? {})) {
        expect([name, version]).toEqual([name, packages[`node_modules/${name}`]?.version])
      }
    }
    expect(Object.keys(manifest['dependencies'] ?? {}).length).toBeLessThanOrEqual(20)
    expect(manifest['optionalDependencies']).toBeUndefined()
    expect(read('.npmrc')).toMatch(/^save-exact=true$/m)
    expect(read('.npmrc')).not.toMatch(/registry|_auth|strict-ssl/)
  })

  it('A23 no package runs a script when it is installed but those that are named, and none in the image', () => {
    const running = locked.flatMap(([path, { hasInstallScript }]) =>
      hasInstallScript ? [path.split('node_modules/').at(-1) as string] : [],
    )
    const named = Object.entries(manifest['allowScripts'] ?? {})
    expect([...new Set(running)].sort()).toEqual(named.map(([name]) => name).sort())
    expect(named.flatMap(([name, may]) => (may ? [name] : [])).sort()).toEqual(mayRunScripts)
    const installs = read('Dockerfile').match(/npm (?:ci|i|install)\b.*/g) ?? []
    expect(installs.length).toBeGreaterThan(0)
    for (const line of installs) expect(line).toMatch(/^npm ci\b.*--ignore-scripts/)
    for (const script of ['preinstall', 'install', 'postinstall', 'prepare']) {
      expect(manifest['scripts']).not.toHaveProperty(script)
    }
  })

  it('A23 what is installed is what is locked', () => {
    for (const name of Object.keys(manifest['dependencies'] ?? {})) {
      const { version } = JSON.parse(read(`node_modules/${name}/package.json`)) as { version: string }
      expect([name, version]).toEqual([name, packages[`node_modules/${name}`]?.version])
    }
  })

  it('A23 nothing is loaded by a name that is made when it runs, nor made into code', () => {
    const src = join(root, 'src')
    const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((path) => /\.tsx?$/.test(path))
    expect(files.length).toBeGreaterThan(100)
    for (const path of files) {
      const text = read(join('src', path)).replaceAll(/^\s*(?:\/\/|\*|\/\*).*$/gm, '')
      expect([path, /\bimport\((?!['"])|\brequire\(|\beval\(|new Function\(/.test(text)]).toEqual([path, false])
    }
  })

  it('A23 the image is no more than it needs, and runs as nobody in particular', () => {
    const dockerfile = read('Dockerfile')
    expect(dockerfile).toMatch(/^USER (?!root)\w+$/m)
    expect(dockerfile).toMatch(/npm ci --omit=dev/)
    expect(dockerfile).not.toMatch(/\bcurl\b|\bwget\b|ADD https?:|API_KEY=/)
    expect(existsSync(join(root, '.dockerignore'))).toBe(true)
  })
})
