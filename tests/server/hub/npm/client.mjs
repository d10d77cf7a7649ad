// What a person does with the JavaScript client of Hugging Face, unmodified.
import assert from "node:assert/strict";
import {
  commit, countCommits, createBranch, createRepo, deleteBranch, deleteFile, deleteRepo, downloadFile, fileDownloadInfo,
  fileExists, listCommits, listDatasets, listFiles, listModels, modelInfo, pathsInfo, repoExists, uploadFile, uploadFiles,
  whoAmI,
} from "@huggingface/hub";

const hubUrl = process.env.HF_ENDPOINT;
const accessToken = process.env.HF_TOKEN;
const repo = "alice/from-javascript";
const common = { hubUrl, accessToken, repo };
const collect = async (items) => {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
};

assert.equal((await whoAmI({ hubUrl, accessToken })).name, "alice");
await createRepo({ hubUrl, accessToken, repo, private: false });
assert.ok(await repoExists({ hubUrl, accessToken, repo }));
assert.ok(!(await repoExists({ hubUrl, accessToken, repo: "alice/never" })));

const weights = new Uint8Array(1_500_000).map((_, index) => (index * 7919) % 251);
await uploadFiles({ ...common, files: [
  { path: "weights.bin", content: new Blob([weights]) },
  { path: "README.md", content: new Blob(["---\nlicense: mit\ntags: [from-js]\n---\nWritten in JavaScript.\n"]) },
  { path: "a folder/ü.txt", content: new Blob(["hello"]) },
] });
await uploadFile({ ...common, file: { path: "late.txt", content: new Blob(["late"]) }, commitTitle: "Late" });

const files = await collect(listFiles({ ...common, recursive: true, expand: true }));
assert.deepEqual(files.filter((file) => file.type === "file").map((file) => file.path).sort(),
  [".gitattributes", "README.md", "a folder/ü.txt", "late.txt", "weights.bin"].sort());
const info = await fileDownloadInfo({ ...common, path: "weights.bin" });
assert.equal(info.size, 1_500_000);
const body = await downloadFile({ ...common, path: "weights.bin" });
assert.deepEqual(new Uint8Array(await body.arrayBuffer()), weights);
assert.equal(await (await downloadFile({ ...common, path: "a folder/ü.txt" })).text(), "hello");
assert.equal(await downloadFile({ ...common, path: "none.txt" }), null);
assert.ok(await fileExists({ ...common, path: "late.txt" }));
const [found] = await pathsInfo({ ...common, paths: ["weights.bin"], expand: true });
assert.equal(found.lfs.size, 1_500_000);
assert.match(await (await downloadFile({ ...common, path: "weights.bin", raw: true })).text(), /^version https:/);
const part = (await downloadFile({ ...common, path: "weights.bin" })).slice(1000, 1010);
assert.deepEqual(new Uint8Array(await part.arrayBuffer()), weights.slice(1000, 1010));

assert.deepEqual((await collect(listModels({ hubUrl, accessToken, search: { owner: "alice", tags: ["from-js"] } })))
  .map((model) => model.name), [repo]);
assert.equal((await collect(listDatasets({ hubUrl, accessToken, search: { owner: "nobody" } }))).length, 0);
assert.equal((await modelInfo({ hubUrl, accessToken, name: repo })).private, false);
assert.equal(await countCommits({ ...common }), 3);
assert.equal((await collect(listCommits({ ...common })))[0].title, "Late");

await createBranch({ ...common, branch: "try" });
await deleteBranch({ ...common, branch: "try" });
await deleteFile({ ...common, path: "late.txt" });
const head = (await collect(listCommits({ ...common })))[0].oid;
const change = { operation: "addOrUpdate", path: "x.txt", content: new Blob(["x"]) };
await commit({ ...common, title: "In time", operations: [change], parentCommit: head });
await assert.rejects(commit({ ...common, title: "Too late", operations: [change], parentCommit: head }), (error) =>
  error.statusCode === 412 && /moved on/.test(error.message));
await assert.rejects(commit({ ...common, accessToken: undefined, title: "Nobody", operations: [change] }), (error) =>
  error.statusCode === 401);
await deleteRepo({ hubUrl, accessToken, repo });
console.log("all well");
