// main() of a fuzz target where there is no libFuzzer: runs the inputs that it is given, files or
// directories of files, once each. Options of libFuzzer (-runs=...) are ignored.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

int run(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(in), {}};
  // Without this line, nobody would know which input has ended the process.
  std::fprintf(stderr, "%s\n", file.c_str());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  return 1;
}

}  // namespace

int main(int count, char** arguments) {
  int inputs = 0;
  for (int i = 1; i < count; i++) {
    if (arguments[i][0] == '-') continue;
    if (std::filesystem::is_directory(arguments[i])) {
      for (const auto& file : std::filesystem::directory_iterator(arguments[i]))
        inputs += run(file.path());
    } else {
      inputs += run(arguments[i]);
    }
  }
  std::printf("%d inputs\n", inputs);
  return inputs ? 0 : 1;
}
