"""The class activation map as a set of ranked pixels and as linear forms over the feature map."""
