// The shop's page: counts visits in Redis, keeps a rendered part in Memcached for a few seconds.
// Speaks both protocols by itself so that the image needs nothing but Node.js.
'use strict';
const fs = require('fs');
const http = require('http');
const net = require('net');
const os = require('os');

const shop = JSON.parse(fs.readFileSync('/run/configs/web/shop.json', 'utf8'));
const password = process.env.REDIS_PASSWORD.trimEnd(); // files tend to end with a newline

// Send lines to a server, collect the answer until `done` says it is complete.
function ask(host, port, request, done) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port });
    let answer = '';
    socket.setTimeout(2000, () => socket.destroy(new Error(`${host}:${port} did not answer`)));
    socket.on('connect', () => socket.write(request));
    socket.on('data', (chunk) => {
      answer += chunk;
      if (done(answer)) socket.end();
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(answer));
  });
}

const words = (...parts) =>
  `*${parts.length}\r\n` + parts.map((p) => `$${Buffer.byteLength(p)}\r\n${p}\r\n`).join('');

async function redis(...command) {
  const answer = await ask('redis', 6379, words('AUTH', password) + words(...command) + words('QUIT'),
    (text) => text.endsWith('+OK\r\n') && text.split('+OK').length > 2);
  return answer.split('\r\n').slice(1, -2);
}

async function greeting() {
  const cached = await ask('memcached', 11211, 'get greeting\r\n', (t) => t.endsWith('END\r\n'));
  if (cached.startsWith('VALUE')) return cached.split('\r\n')[1];
  const value = (await redis('GET', 'greeting'))[1] || 'Hello';
  await ask('memcached', 11211,
    `set greeting 0 ${shop.cacheSeconds} ${Buffer.byteLength(value)}\r\n${value}\r\n`,
    (t) => t.endsWith('\r\n'));
  return value;
}

const server = http.createServer(async (request, response) => {
  try {
    if (request.url === '/healthz') return response.end('ok\n');
    const visits = (await redis('INCR', 'visits'))[0].slice(1);
    const page = { title: shop.title, greeting: await greeting(), visits: Number(visits), from: os.hostname() };
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(page) + '\n');
  } catch (error) {
    response.statusCode = 502;
    response.end(`${error.message}\n`);
  }
});
server.listen(Number(process.env.PORT));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
