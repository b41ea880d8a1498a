// Stubs made from the public proto files at run time, and a stream as a list of promises.
'use strict';

const path = require('path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTO = path.resolve(__dirname, '../../../proto');

// `longs: Number`: step numbers are small here. A client with ids beyond 2^53 takes String.
const OPTIONS = { includeDirs: [PROTO], keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true };

function load(...files) {
  return grpc.loadPackageDefinition(protoLoader.loadSync(files, OPTIONS));
}

function connect(Service, address) {
  return new Service(address, grpc.credentials.createInsecure());
}

// A call with one answer.
function unary(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// A stream of which every `next()` is the next message, in order; its end and its errors reject.
class Stream {
  constructor(call) {
    this.call = call;
    this.messages = call[Symbol.asyncIterator]();
  }

  send(message) {
    this.call.write(message);
  }

  async next() {
    const { value, done } = await this.messages.next();
    if (done) throw new Error('the stream has ended');
    return value;
  }

  async end() {
    this.call.end();
    while (!(await this.messages.next()).done);
  }
}

// Numbers as the wire has them: little-endian float32, and back.
function floats(...values) {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => bytes.writeFloatLE(value, 4 * i));
  return bytes;
}

function numbers(bytes) {
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}

// Run a script's function with the address of the command line, and print what it returns as JSON.
function main(scenario) {
  scenario(process.argv[2]).then(
    (result) => console.log(JSON.stringify(result)),
    (error) => {
      console.error(error);
      process.exitCode = 1;
    },
  );
}

module.exports = { Stream, connect, floats, load, main, numbers, unary };
