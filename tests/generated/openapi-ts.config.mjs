export default {
  input: "openapi.json",
  // Node.js needs the extension in imports of ES modules.
  output: { path: "client", module: { extension: ".js" } },
  plugins: ["@hey-api/client-fetch"],
  logs: { file: false },
};
