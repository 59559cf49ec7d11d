// Runs inside the network namespace of a node under test and passes connections on to what is there: it listens on a unix socket, and the
// first line of a connection says HOST PORT.
//   node relay-loop.ts SOCKET
import net from 'node:net'

const relay = net.createServer({ allowHalfOpen: true }, (outer) => {
  outer.on('error', () => outer.destroy())
  outer.once('readable', () => {
    const first = outer.read() as Buffer | null
    const end = first?.indexOf(10) ?? -1
    const [host = '', port = ''] = first?.subarray(0, end).toString().split(' ') ?? []
    if (first === null || end < 0 || host === '') {
      outer.destroy()
      return
    }
    const inner = net.connect({ host, port: Number(port), allowHalfOpen: true })
    inner.once('connect', () => {
      outer.write('ok\n')
      inner.write(first.subarray(end + 1))
      outer.pipe(inner).pipe(outer)
    })
    inner.on('error', () => outer.destroy())
    outer.once('close', () => inner.destroy())
    inner.once('close', () => outer.destroy())
  })
})
relay.listen(process.argv[2])
