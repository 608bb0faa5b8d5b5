// SPDX-License-Identifier: BSD-2-Clause
// check_json FILE: whether it is what tcpinfo-bench --only connections writes when all went well.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include <rapidjson/document.h>

int main(int argc, char** argv) {
  std::ifstream file(argc == 2 ? argv[1] : "");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  rapidjson::Document json;
  if (json.Parse(text.c_str()).HasParseError() || !json.IsObject()) return std::puts("not a JSON object"), 1;
  const auto& measurements = json["measurements"];
  if (!measurements.IsArray() || measurements.Size() != 1) return std::puts("not one measurement"), 1;
  if (measurements[0]["outcome"] != "measured") return std::puts("not measured"), 1;
  int goals = 0;
  for (const auto& result : measurements[0]["results"].GetArray()) {
    if (result["ratio"]["count"].GetUint() == 0 || !(result["ours"]["median"].GetDouble() > 0))
      return std::puts("a result without figures"), 1;
    goals += result["reached"].IsBool();
  }
  return goals == 2 ? 0 : (std::puts("not the two goals"), 1);
}
