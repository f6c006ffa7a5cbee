# Helpers that every folder's CMakeLists.txt uses.
find_package(PkgConfig REQUIRED)
find_program(CCACHE ccache)
if(CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

# What every target of ours is compiled with. No FP contraction: the commit code must give the same
# bytes in the coordinator and in a worker, and ref kernels must not change with the compiler's mood.
add_library(rmk_flags INTERFACE)
target_include_directories(rmk_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(rmk_flags INTERFACE _GNU_SOURCE RMK_VERSION="${PROJECT_VERSION}")
target_compile_options(rmk_flags INTERFACE
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-missing-field-initializers
    -Wno-format-truncation # a sentence or label that is too long is cut, on purpose
    -ffp-contract=off -fno-strict-aliasing)
if(RMK_WERROR)
    target_compile_options(rmk_flags INTERFACE -Werror)
endif()
if(RMK_SANITIZE STREQUAL "address")
    target_compile_options(rmk_flags INTERFACE -fsanitize=address,undefined -fno-omit-frame-pointer)
    target_link_options(rmk_flags INTERFACE -fsanitize=address,undefined)
elseif(RMK_SANITIZE STREQUAL "thread")
    target_compile_options(rmk_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
    target_link_options(rmk_flags INTERFACE -fsanitize=thread)
endif()

# rmk_library(NAME SOURCES a.c b.c LIBS x y): a static library of ours.
function(rmk_library name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC rmk_flags ${ARG_LIBS})
endfunction()

# rmk_program(NAME SOURCES … LIBS …): an executable in build/<preset>/bin.
function(rmk_program name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE rmk_flags ${ARG_LIBS})
endfunction()

# rmk_test(NAME SOURCES … LIBS … [ARGS …] [LABELS …] [TIMEOUT seconds]): a cmocka program in ctest. It runs in the
# source root, so paths into tests/data are relative.
function(rmk_test name)
    cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS;ARGS;LABELS" ${ARGN})
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 120)
    endif()
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE rmk_flags ${ARG_LIBS} cmocka)
    add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
    if(RMK_SANITIZE STREQUAL "thread")
        set_tests_properties(${name} PROPERTIES ENVIRONMENT
            "TSAN_OPTIONS=suppressions=tests/support/tsan.supp ignore_noninstrumented_modules=1")
    endif()
endfunction()

# rmk_fuzzer(NAME SOURCES … LIBS …): a libFuzzer target. With gcc (no libFuzzer) tests/fuzz/driver.c runs the corpus only.
function(rmk_fuzzer name)
    cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;LIBS" ${ARGN})
    add_executable(${name} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/driver.c)
    target_link_libraries(${name} PRIVATE rmk_flags ${ARG_LIBS})
    add_test(NAME ${name} COMMAND ${name} ${ARG_CORPUS} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES TIMEOUT 120 LABELS "fuzz")
endfunction()

# A program looks for its libraries, and theirs, in ../lib first: so tests/gpu/bundle needs to rewrite nothing.
set(CMAKE_BUILD_RPATH "$ORIGIN/../lib")
add_link_options(-Wl,--disable-new-dtags)

enable_testing()
