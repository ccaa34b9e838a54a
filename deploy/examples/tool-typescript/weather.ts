// A tool service in TypeScript:
//
//   npm ci
//   sallyport tool serve weather.proto -- node weather.ts
//
// Requests have been checked against the rules in weather.proto when they get here.
import { readFileSync } from "node:fs";
import * as grpc from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";

interface GetWeatherRequest {
  city: string;
}

interface GetWeatherResponse {
  celsius: number;
  sky: string;
}

const known: Record<string, GetWeatherResponse> = {
  Bergen: { celsius: 7.5, sky: "rain" },
  Oslo: { celsius: 3, sky: "clouds" },
  Tromsø: { celsius: -4, sky: "snow" },
};

const getWeather: grpc.handleUnaryCall<GetWeatherRequest, GetWeatherResponse> = (call, answer) => {
  const weather = known[call.request.city];
  if (weather === undefined) {
    answer({ code: grpc.status.NOT_FOUND, details: "this city is not known; known are " + Object.keys(known).join(", ") });
    return;
  }
  answer(null, weather);
};

const image = loadFileDescriptorSetFromBuffer(readFileSync(process.env.SALLYPORT_IMAGE!));
const service = image["example.weather.v1.WeatherService"] as grpc.ServiceDefinition;

const server = new grpc.Server();
server.addService(service, { GetWeather: getWeather });
server.bindAsync(process.env.SALLYPORT_LISTEN!, grpc.ServerCredentials.createInsecure(), (err) => {
  if (err) throw err;
});
process.on("SIGTERM", () => server.tryShutdown(() => process.exit()));
