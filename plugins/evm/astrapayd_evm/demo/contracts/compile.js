// Called by build.sh: node compile.js VERSION SOURCE OUTPUT, with the compiler on NODE_PATH.
// Uses the compiler's standard JSON interface, because solcjs' own command line takes neither evmVersion nor metadata settings.
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const solc = require("solc");

const [version, sourcePath, outputPath] = process.argv.slice(2);
if (!solc.version().startsWith(version + "+")) {
  console.error(`solc ${version} is pinned, found ${solc.version()}`);
  process.exit(1);
}
const file = path.basename(sourcePath);
const contract = path.basename(file, ".sol");
const content = fs.readFileSync(sourcePath, "utf8");
const settings = {
  // paris: no PUSH0, so that the same bytecode runs on chains that are behind Shanghai.
  evmVersion: "paris",
  optimizer: { enabled: true, runs: 200 },
  // The metadata hash would tie the bytecode to comments and file names.
  metadata: { bytecodeHash: "none", appendCBOR: false },
};
const input = {
  language: "Solidity",
  sources: { [file]: { content } },
  settings: { ...settings, outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
for (const problem of output.errors ?? []) console.error(problem.formattedMessage);
if ((output.errors ?? []).length > 0) process.exit(1); // warnings too
const built = output.contracts[file][contract];
const artifact = {
  contract,
  source: file,
  sourceSha256: crypto.createHash("sha256").update(content).digest("hex"),
  compiler: solc.version(),
  settings,
  abi: built.abi,
  bytecode: "0x" + built.evm.bytecode.object,
};
fs.writeFileSync(outputPath, JSON.stringify(artifact, null, 1) + "\n");
