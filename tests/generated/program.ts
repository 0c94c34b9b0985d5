// A program on the generated client. It prints what it receives as JSON, for test_generated_clients.py to check.
import { batchClassify, classify, getModel, predictGenre } from "./client/index.js";
import type {
  BatchClassifyError,
  ClassifyError,
  ClassifyResponse,
  GetModelError,
  PredictGenreError,
  Problem,
} from "./client/index.js";
import { createClient } from "./client/client/index.js";

// Compiles only if every call fails with the one type Problem.
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
const oneProblem: [
  Same<ClassifyError, Problem>,
  Same<BatchClassifyError, Problem>,
  Same<GetModelError, Problem>,
  Same<PredictGenreError, Problem>,
] = [true, true, true, true];

const [address, key] = process.argv.slice(2);
if (address === undefined || key === undefined) {
  throw new Error("usage: program.js ADDRESS KEY");
}
const client = createClient({ baseUrl: address, auth: key });
const keyless = createClient({ baseUrl: address });

function problem(error: Problem | undefined): object {
  return { status: error?.status, reason: error?.reason, fields: error?.errors?.map((field) => field.field) };
}

function labels(answer: ClassifyResponse | undefined): string[] | undefined {
  return answer?.genres.map((genre) => genre.label);
}

const overview = "A retired gunslinger defends a frontier town against the hired men of a cattle baron.";
const one = await classify({ client, body: { title: "Dust Creek", overview, include_scores: true, explain: true } });
const many = await batchClassify({ client, body: { movies: [{ overview }, { title: "Dust Creek", overview }] } });
const model = await getModel({ client });
const reference = await predictGenre({ client, body: { title: ["Dust Creek"], overview: [overview] } });
const blank = await classify({ client, body: { overview: " " } });
const unauthorized = await classify({ client: keyless, body: { overview } });
console.log(
  JSON.stringify({
    one: labels(one.data),
    scores: one.data?.scores?.length,
    segments: one.data?.explanation?.segments.map((segment) => segment.source),
    many: many.data?.results.map(labels),
    labels: model.data?.labels.length,
    reference: reference.data?.length,
    blank: problem(blank.error),
    unauthorized: problem(unauthorized.error),
    oneProblem,
  }),
);
