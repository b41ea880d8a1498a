// The Open Inference door: sequences on ModelStreamInfer, and single calls. The model is h' = h / 2 + x, y = h'.
'use strict';

const { Stream, connect, floats, load, main, numbers, unary } = require('./stubs.js');

const { GRPCInferenceService } = load('tidegate/oip/open_inference.proto').inference;

function request(id, value, parameters) {
  return {
    model_name: 'decay',
    id,
    parameters,
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4] }],
    raw_input_contents: [floats(...Array(4).fill(value))],
  };
}

function told(answer) {
  return {
    id: answer.id,
    y: numbers(answer.raw_output_contents[0]),
    step: answer.parameters.step && answer.parameters.step.int64_param,
  };
}

main(async (address) => {
  const client = connect(GRPCInferenceService, address);
  const metadata = await unary(client, 'ServerMetadata', {});
  const stateless = told(await unary(client, 'ModelInfer', request('alone', 1, {})));

  const stream = new Stream(client.ModelStreamInfer());
  const sequence = { sequence_id: { int64_param: 42 } };
  stream.send(request('a', 1, { ...sequence, sequence_start: { bool_param: true } }));
  stream.send(request('b', 1, sequence));
  const answers = [await stream.next(), await stream.next()];
  stream.send(request('lost', 1, { sequence_id: { string_param: 'nobody began this' } }));
  const refused = await stream.next();
  stream.send(request('c', 1, { ...sequence, sequence_end: { bool_param: true } }));
  answers.push(await stream.next());
  await stream.end();
  client.close();
  return {
    extensions: metadata.extensions,
    stateless,
    answers: answers.map(({ infer_response: response }) => told(response)),
    refused: [refused.error_message, refused.infer_response.id],
  };
});
