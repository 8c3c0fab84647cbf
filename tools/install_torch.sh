#!/bin/sh
# torch, pinned, into the environment $1. $2 is "cpu" for the small CPU build, which on Linux saves about 3 GB of CUDA
# libraries. It lies at a site of PyTorch's own, which uv knows.
bin=$1 build=$2
pinned=$(grep -i '^torch==' constraints.txt)

if [ "$build" != cpu ]; then
    exec "$bin/pip" install -q "$pinned" -c constraints.txt
fi
"$bin/pip" install -q uv -c constraints.txt || exit 1
if "$bin/uv" pip install -q --python "$bin/python" --torch-backend cpu "$pinned" -c constraints.txt; then
    exit 0
fi
echo "下载不到 CPU 版的 PyTorch：它的站点连不上。不写 TORCH=cpu 再运行一次，就从 pip 平常的来源装（Linux 上约 3 GB）。"
echo "PyTorch's site with the CPU builds cannot be reached. Run the same command without TORCH=cpu: pip's usual"
echo "source then gives the default build (about 3 GB on Linux)."
exit 1
