// tidegate's own stream: open, frames, a break, resume, end. The model is h' = h / 2 + x, y = h', width 4.
'use strict';

const { Stream, connect, floats, load, main, numbers } = require('./stubs.js');

const { SessionService } = load('tidegate/v1/session.proto').tidegate.v1;
const INSTANCE = Buffer.from('node');

function openMessage(attempt, mode, have) {
  return {
    open: {
      open_id: attempt,
      client_instance: INSTANCE,
      attempt,
      model: { name: 'decay' },
      mode,
      session_ids: ['node-a', 'node-b'],
      have,
      held_from: have,
    },
  };
}

function frameMessage(opened, id, firstSteps, value) {
  const inputs = floats(...Array(8).fill(value));
  return { frame: { frame_id: id, handles: opened.handles, num_steps: 1, first_steps: firstSteps, inputs: [inputs] } };
}

async function ask(stream, message, answer) {
  stream.send(message);
  for (;;) {
    const response = await stream.next();
    if (response.message === answer) return response[answer];
    if (response.message === 'error') throw new Error(response.error.error.message);
  }
}

main(async (address) => {
  const client = connect(SessionService, address);
  const first = new Stream(client.Stream());
  const opened = await ask(first, openMessage(1, 'OPEN_MODE_CREATE', []), 'opened');
  const results = [
    await ask(first, frameMessage(opened, 1, [0, 0], 1), 'result'),
    await ask(first, frameMessage(opened, 2, [1, 1], 1), 'result'),
  ];
  const refused = await ask(first, frameMessage(opened, 3, [9, 2], 1), 'result');
  first.call.on('error', () => {});
  first.call.cancel();

  const second = new Stream(client.Stream());
  const resumed = await ask(second, openMessage(2, 'OPEN_MODE_RESUME', [2, 3]), 'opened');
  results.push(await ask(second, frameMessage(resumed, 4, [2, 3], 1), 'result'));
  const end = { close: { close_id: 1, mode: 'CLOSE_MODE_END', handles: resumed.handles } };
  const closed = await ask(second, end, 'closed');
  await second.end();
  client.close();
  return {
    model: opened.models[0].name,
    opened: opened.next_steps,
    outputs: results.map((result) => numbers(result.outputs[0])),
    refused: refused.errors.map(({ index, error }) => [index, error.reason, error.expected_step]),
    resumed: resumed.next_steps,
    closed: closed.next_steps,
  };
});
