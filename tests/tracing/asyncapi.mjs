// Reads an AsyncAPI document on stdin and says what its own parser makes of it; the Avro schemas in it are parsed too.
import { Parser } from "@asyncapi/parser";
import { AvroSchemaParser } from "@asyncapi/avro-schema-parser";

let text = "";
for await (const chunk of process.stdin) text += chunk;
const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
const { document, diagnostics } = await parser.parse(text);
const errors = diagnostics.filter((one) => one.severity === 0).map((one) => `${one.path.join("/")}: ${one.message}`);
const operations = document?.allOperations().map((one) => `${one.action()} ${one.messages()[0]?.name()}`) ?? [];
console.log(JSON.stringify({ errors, operations: operations.sort() }));
