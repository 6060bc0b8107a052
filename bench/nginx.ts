import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Ports {
  readonly own: number
  readonly upstream: number
}

/** Writes a configuration into `folder` and returns the command that runs it: one process, nothing buffered, no log. */
export function nginxCommand({ own, upstream }: Ports, folder: string): [string, ...string[]] {
  const file = join(folder, 'nginx.conf')
  writeFileSync(file, configuration({ own, upstream }, folder))
  return ['nginx', '-e', 'stderr', '-c', file]
}

/** As the docs have it for Sluice, but for what a byte pipe does not need. Connections stay open as in the other targets. */
function configuration({ own, upstream }: Ports, folder: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `
daemon off;
master_process off;
pid ${folder}/pid;
worker_rlimit_nofile 65536;
events { worker_connections 32768; }
http {
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
  access_log off;
  upstream claude {
    server 127.0.0.1:${upstream};
    keepalive 64;
    keepalive_requests 100000000;
  }
  server {
    listen 127.0.0.1:${own} backlog=4096;
    keepalive_requests 100000000;
    location / {
      proxy_pass http://claude;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
`
}
