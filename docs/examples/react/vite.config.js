/** The page finds Sluice on its own origin, below /sluice, as it would behind a proxy in production. */
export default {
  server: {
    port: 3000,
    proxy: {
      '/sluice': { target: 'http://127.0.0.1:8787', rewrite: (path) => path.replace(/^\/sluice/, '') },
    },
  },
}
