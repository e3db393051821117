// Makes plugin.wasm of plugin.js.
import { writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({
  sourcePath: "plugin.js",
  witPath: "wit",
  worldName: "router-plugin",
  // A plugin has no network.
  disableFeatures: ["http", "fetch-event"],
});
await writeFile("plugin.wasm", component);
