// Reads manifests as a JSON array on stdin, and writes as many arrays of complaints, each a string.
import { text } from "node:stream/consumers";

const PACKAGES = {
  "keda.sh/v1alpha1": "@kubernetes-models/keda",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator",
};

async function complaints(manifest) {
  const { apiVersion, kind } = manifest;
  const { [kind]: Model } = await import(`${PACKAGES[apiVersion]}/${apiVersion}/${kind}`);
  const read = new Set();
  try {
    Model.prototype.validate.call(watched(manifest, "", read));
  } catch (problem) {
    return [problem.message];
  }
  return [...paths(manifest, "")].filter((path) => !read.has(path)).map((path) => `${path} is in no schema`);
}

// The schemas don't forbid what they don't know. But a validator reads every property that its schema does know.
function watched(value, path, read) {
  if (typeof value !== "object" || value === null) return value;
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === "symbol") return target[key];
      read.add(`${path}/${key}`);
      return watched(target[key], `${path}/${key}`, read);
    },
  });
}

function* paths(value, path) {
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    yield `${path}/${key}`;
    yield* paths(inner, `${path}/${key}`);
  }
}

const manifests = JSON.parse(await text(process.stdin));
process.stdout.write(JSON.stringify(await Promise.all(manifests.map(complaints))));
