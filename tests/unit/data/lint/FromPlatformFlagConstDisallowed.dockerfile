FROM --platform=linux/amd64 alpine AS base
FROM --platform=linux/amd64 alpine AS build-amd64
FROM --platform=${p:-linux/amd64} alpine
