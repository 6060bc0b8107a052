import { execFileSync } from 'node:child_process'
import { mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

export interface CertificateFiles {
  readonly cert_file: string
  readonly key_file: string
  /** As the environment gives it to Sluice. */
  readonly env: Record<string, string>
  /** Puts another certificate in the place of this one. */
  renew(subject: string): void
  remove(): void
}

/** A certificate that nobody but its maker has signed, for localhost, in files that are gone when the test is over. */
export function certificate(subject = 'first', more: Record<string, unknown> = {}): CertificateFiles {
  const made = makeCertificate(subject, more)
  onTestFinished(() => made.remove())
  return made
}

/** The same, for several tests to share: the caller removes it. */
export function makeCertificate(subject = 'first', more: Record<string, unknown> = {}): CertificateFiles {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-tls-'))
  const [cert_file, key_file] = [join(folder, 'tls.crt'), join(folder, 'tls.key')]
  function renew(name: string): void {
    make(name, `${cert_file}.new`, `${key_file}.new`)
    renameSync(`${cert_file}.new`, cert_file)
    renameSync(`${key_file}.new`, key_file)
  }
  renew(subject)
  return {
    cert_file,
    key_file,
    env: { SLUICE_SERVER__TLS: JSON.stringify({ cert_file, key_file, ...more }) },
    renew,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

function make(subject: string, cert: string, key: string): void {
  const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1'
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  const args = ['req', ...kind, '-subj', `/CN=${subject}`, '-addext', names, '-keyout', key, '-out', cert]
  execFileSync('openssl', args, { stdio: 'pipe' })
}
