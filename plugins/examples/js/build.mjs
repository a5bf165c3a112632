// Makes a component of app.js; build.sh calls it with the name of the file to write.

import { readFile, writeFile } from "node:fs/promises";

import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize(await readFile("app.js", "utf8"), {
    sourceName: "app.js",
    witPath: "wit",
    worldName: "service",
    // A plugin makes no HTTP requests: Lockgate takes no component that imports wasi:http.
    disableFeatures: ["http", "fetch-event"],
});
await writeFile(process.argv[2], component);
